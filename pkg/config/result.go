package config

import (
	"encoding/json"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
)

const resultDetails = "an earlier plugin of the chain made it, or the runtime kept it: it must be a result of the configuration's cniVersion"

// decodeResult reads a result of the given version. It is somebody else's
// word: the lists hold no null, every address is one, and every index is of
// an interface in the list.
func decodeResult(version string, raw json.RawMessage) (*types100.Result, error) {
	refuse := func(format string, a ...any) (*types100.Result, error) {
		return nil, cnierr.New(cnierr.Decoding, resultDetails, "prevResult: "+format, a...)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return refuse("want an object, got %s", kindOf(raw))
	}
	// The conversion between versions would crash on a null.
	var lists struct{ Interfaces, IPs, Routes []json.RawMessage }
	if err := json.Unmarshal(raw, &lists); err != nil {
		return refuse("interfaces, ips and routes must be lists")
	}
	for _, list := range [][]json.RawMessage{lists.Interfaces, lists.IPs, lists.Routes} {
		for _, item := range list {
			if isNull(item) {
				return refuse("there is a null in interfaces, ips or routes")
			}
		}
	}
	if fields["cniVersion"] == nil { // older libraries leave it out
		fields["cniVersion"] = json.RawMessage(`"` + version + `"`)
	}
	complete, err := json.Marshal(fields)
	if err != nil {
		return refuse("it cannot be read: %s", plain(err.Error()))
	}
	decoded, err := create.Create(version, complete)
	if err != nil {
		return refuse("it is not a result of cniVersion %s: %s", version, plain(err.Error()))
	}
	result, err := types100.NewResultFromResult(decoded)
	if err != nil {
		return refuse("it cannot be converted: %s", plain(err.Error()))
	}
	for i, ip := range result.IPs {
		if ip.Address.IP == nil {
			return refuse("ips[%d] has no address", i)
		}
		if ip.Interface != nil && (*ip.Interface < 0 || *ip.Interface >= len(result.Interfaces)) {
			return refuse("ips[%d] is on interface %d, of %d", i, *ip.Interface, len(result.Interfaces))
		}
	}
	for i, route := range result.Routes {
		if route.Dst.IP == nil {
			return refuse("routes[%d] has no destination", i)
		}
	}
	return result, nil
}

package attachment

const uplinkHandle = "microvm-uplink."

// UplinkHandle is the alternative name that the bridge plugin puts on a NIC of
// the host before it adds it to the bridge, so that whoever takes the last guest
// off the bridge knows which NIC to give back, and whether it was up before.
func UplinkHandle(bridge string, up bool) string {
	if up {
		return uplinkHandle + "up." + bridge
	}
	return uplinkHandle + "down." + bridge
}

// UplinkHandles are what UplinkHandle may have put on a NIC for the bridge.
func UplinkHandles(bridge string) []string {
	return []string{UplinkHandle(bridge, true), UplinkHandle(bridge, false)}
}

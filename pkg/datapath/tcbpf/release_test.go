package tcbpf

import "testing"

func TestRelease(t *testing.T) {
	for release, want := range map[string]bool{
		"5.12.0": true, "5.12": true, "5.13.1-arch1": true, "6.1.0-41-amd64": true, "10.0.0": true, "6.0-rc1": true,
		"5.11.22": false, "5.9.0": false, "4.19.0": false, "": false, "linux": false, "5": false,
	} {
		if got := releaseAtLeast(release, 5, 12); got != want {
			t.Errorf("%q is at least 5.12: %v", release, got)
		}
	}
	if !KernelAtLeast(5, 10) || KernelAtLeast(1000, 0) {
		t.Error("the kernel is none that the tests run on")
	}
}

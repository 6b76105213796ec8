package cleanup

import "testing"

// The test fails after its subtests, one of which was skipped.
func TestLeaks(t *testing.T) {
	t.Cleanup(func() { t.Error("left behind: tap0") })
	t.Run("passes", func(t *testing.T) {})
	t.Run("skips", func(t *testing.T) { t.Skip("not here") })
}

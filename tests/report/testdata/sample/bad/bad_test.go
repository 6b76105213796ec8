package bad

import "testing"

func TestFails(t *testing.T) {
	t.Log("said before")
	t.Error("expected 1, got 2")
}

func TestSubtestFails(t *testing.T) {
	t.Run("passes", func(t *testing.T) {})
	t.Run("fails", func(t *testing.T) { t.Error("only this counts") })
}

func TestPasses(t *testing.T) {}

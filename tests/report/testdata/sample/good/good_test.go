package good

import "testing"

func TestPlain(t *testing.T) { t.Log("not shown") }

func TestSubtests(t *testing.T) {
	t.Run("one", func(t *testing.T) {})
	t.Run("two/with a slash", func(t *testing.T) {})
	t.Run("left out", func(t *testing.T) { t.Skip("no reason") })
}

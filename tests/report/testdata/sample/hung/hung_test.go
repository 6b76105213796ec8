package hung

import "testing"

func TestHangs(t *testing.T) {
	t.Log("waiting")
	t.Run("forever", func(t *testing.T) { select {} })
}

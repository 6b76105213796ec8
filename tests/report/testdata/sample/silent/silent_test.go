package silent

import (
	"fmt"
	"os"
	"testing"
)

func TestNeverRuns(t *testing.T) {}

func TestMain(m *testing.M) {
	fmt.Println("this machine has no KVM")
	os.Exit(0)
}

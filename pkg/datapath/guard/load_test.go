package guard

import (
	"testing"
)

func BenchmarkParse(b *testing.B) {
	for b.Loop() {
		if _, err := loadProgram(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLoad(b *testing.B) {
	spec, err := loadProgram()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		l, err := load(spec, typical.Canonical())
		if err != nil {
			b.Fatal(err)
		}
		l.Close()
	}
}

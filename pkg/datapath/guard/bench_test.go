package guard

import (
	"testing"

	"github.com/cilium/ebpf"
)

// BenchmarkLoad is what the guard adds to an ADD, but for attaching it.
func BenchmarkLoad(b *testing.B) {
	s := spec(b)
	for b.Loop() {
		l, err := load(s, typical)
		if err != nil {
			b.Fatal(err)
		}
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkParse comes once in a process before it.
func BenchmarkParse(b *testing.B) {
	for b.Loop() {
		if _, err := loadProgram(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFrame is what the program takes for a frame.
func BenchmarkFrame(b *testing.B) {
	for name, frame := range map[string][]byte{
		"tcp4": out(tIPv4, ip4(guest4, gateway4, pTCP, tcp(1, 2))), "tcp6": out(tIPv6, ip6(guest6, gateway6, pTCP, tcp(1, 2))),
		"arp": ownARP, "spoofed": out(tIPv4, ip4(neighbour4, gateway4, pTCP, tcp(1, 2))),
	} {
		b.Run(name, func(b *testing.B) {
			m := newMachine(b, spec(b), typical)
			for b.Loop() {
				_, err := m.l.Run(&ebpf.RunOptions{Data: frame, Repeat: 10000})
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/10000, "ns/frame")
		})
	}
}

package linkspec

import (
	"fmt"
	"math"
	"math/bits"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
)

const (
	// The kernel counts whole frames, users what arrives: a full frame at an MTU of
	// 1500, and the payload of TCP in it. A bucket is given this much more than the
	// rate. TCP can then get 99 % of the rate (it has 12 bytes of options), and over
	// IPv6 98 %; without it 96 and 94 %.
	fullFrame   = 1500 + 14
	fullPayload = 1500 - 20 - 20

	defaultMTU = 1500 // bytes, of a limit that was not suited to another one

	defaultBurst  = 20 // ms: covers what a busy host takes to wake up again
	minimalFrames = 10 // in the default burst: TCP needs a few to get going
	defaultQueue  = 25 // ms, as that of the bandwidth plugin

	// gsoFrame is more than the 64 KiB of the longest GSO frame of TCP and the
	// headers of the frames that it stands for. A shorter queue could never take it.
	gsoFrame = 128 << 10

	// The kernel's packet scheduler measures in ticks of 64 ns, and its bucket
	// keeps at most 2^32-1 ns.
	ticksPerSecond = 1e9 / 64
	mostTicks      = math.MaxUint32 / 64

	frameOverhead = 14 + 4 // bytes: Ethernet header and one VLAN tag

	fastest = 1e15 // bits a second: beyond it the kernel's division gets coarse
)

// Bucket is a limit as the kernel holds it; the zero value is none.
type Bucket struct {
	Rate  uint64 // bytes a second, Ethernet headers included
	Depth uint32 // ticks of 64 ns that it takes to send the burst at that rate
	Queue uint32 // bytes
}

// suited gives a limit without a burst one that suits frames of that MTU in bytes.
func (l Limit) suited(mtu int) Limit {
	if l.Rate > 0 && l.Burst < 8 {
		l.Burst = 8 * max(mulDivUp(kernelRate(l.Rate), defaultBurst, 1000), minimalFrames*uint64(mtu+14))
	}
	return l
}

// kernelRate is the kernel's rate in bytes a second for a limit's in bits.
func kernelRate(rate uint64) uint64 { return mulDivUp(rate/8, fullFrame, fullPayload) }

// Bucket returns what the kernel is to hold for the limit.
func (l Limit) Bucket() Bucket {
	if l.Rate == 0 {
		return Bucket{}
	}
	l = l.suited(defaultMTU)
	b := Bucket{Rate: kernelRate(l.Rate)}
	burst := l.Burst / 8
	b.Depth = uint32(min(mulDivUp(burst, ticksPerSecond, b.Rate), mostTicks))
	queue := l.Queue / 8
	if queue == 0 {
		queue = mulDivUp(b.Rate, defaultQueue, 1000) + min(b.burst(), gsoFrame)
	}
	b.Queue = uint32(min(queue, math.MaxUint32))
	return b
}

// burst is the depth in bytes.
func (b Bucket) burst() uint64 { return mulDiv(uint64(b.Depth), b.Rate, ticksPerSecond) }

// Limit is the inverse of Limit.Bucket.
func (b Bucket) Limit() Limit {
	return Limit{
		Rate:  8 * mulDiv(b.Rate, fullPayload, fullFrame),
		Burst: 8 * b.burst(),
		Queue: 8 * uint64(b.Queue),
	}
}

func (l Limit) canonical() Limit {
	if l.Rate < 8 {
		return Limit{}
	}
	return l.Bucket().Limit()
}

func (l Limit) check(key string, mtu int) error {
	switch {
	case l.Rate == 0 && l.Burst == 0 && l.Queue == 0:
		return nil
	case l.Rate == 0:
		return cnierr.New(cnierr.Config, "set "+key+"Rate, in bits a second, or remove "+key+"Burst",
			"%sBurst is set, but %sRate is not", key, key)
	}
	frame := 8 * uint64(mtu+frameOverhead)
	if l.Rate < 8 || l.Rate > fastest {
		return cnierr.New(cnierr.Config, fmt.Sprintf("give 8 to %d, or 0 for no limit; the unit is bits a second: 100000000 is 100 Mbit/s", uint64(fastest)), "%sRate %d is out of range", key, l.Rate)
	}
	switch c := l.suited(mtu).canonical(); {
	case l.Burst > 0 && l.Burst < frame:
		return cnierr.New(cnierr.Config, "the unit is bits; remove it to have one that suits the rate",
			"%sBurst %d is less than a frame of MTU %d, which has %d bits: no full frame would ever pass", key, l.Burst, mtu, frame)
	case c.Burst < frame:
		return cnierr.New(cnierr.Config, "the unit is bits a second: 100000000 is 100 Mbit/s",
			"%sRate %d is too slow: a frame of MTU %d would take longer than the 4 seconds that the kernel can measure", key, l.Rate, mtu)
	case c.Queue < frame:
		return cnierr.New(cnierr.Config, "give the queue room for a few frames", "the queue of %sRate is shorter than a frame of MTU %d", key, mtu)
	}
	return nil
}

// mulDiv returns a*b/c, rounded down, or the largest number where it is larger.
func mulDiv(a, b, c uint64) uint64 {
	quotient, _ := divide(a, b, c)
	return quotient
}

// mulDivUp is mulDiv rounded up.
func mulDivUp(a, b, c uint64) uint64 {
	quotient, remainder := divide(a, b, c)
	if remainder > 0 {
		quotient++
	}
	return quotient
}

func divide(a, b, c uint64) (quotient, remainder uint64) {
	high, low := bits.Mul64(a, b)
	if high >= c {
		return math.MaxUint64, 0
	}
	return bits.Div64(high, low, c)
}

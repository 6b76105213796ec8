package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// mark begins a line of the machine's own, not of a test (guest/init).
const mark = 0x02

// follower turns what a machine says into events of `go test -json`.
type follower struct {
	ctx     context.Context
	result  *result
	out     io.Writer
	started time.Time
	due     []string // suites that have not begun
	suite   *suite   // the one that runs
	done    bool     // the machine has said that there is no more
}

// suite is a test binary that runs.
type suite struct {
	name      string
	started   time.Time
	loads     []float64 // of the machine, on the way
	converter *exec.Cmd // go tool test2json
	input     io.WriteCloser
	tally     tally
	read      chan error // the end of the converter's output
}

// follow reads to the end of the channel.
func (f *follower) follow(channel io.Reader) error {
	lines := bufio.NewReader(channel)
	for {
		line, err := lines.ReadBytes('\n')
		output, word, marked := bytes.Cut(line, []byte{mark})
		if len(output) > 0 && f.suite != nil {
			f.suite.loads = append(f.suite.loads, load())
			if _, writeErr := f.suite.input.Write(output); writeErr != nil {
				return fmt.Errorf("write to test2json: %w", writeErr)
			}
		}
		if marked {
			if obeyErr := f.obey(strings.Fields(string(word))); obeyErr != nil {
				return obeyErr
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read from the machine: %w", err)
		}
	}
}

// obey does what a line of the machine's own says.
func (f *follower) obey(words []string) error {
	switch {
	case len(words) == 2 && words[0] == "boot":
		seconds, err := strconv.ParseFloat(words[1], 64)
		if err != nil {
			return fmt.Errorf("read boot time: %w", err)
		}
		f.result.kernelBoot = time.Duration(seconds * float64(time.Second))
		f.result.boot = time.Since(f.started)
		return nil
	case len(words) == 2 && words[0] == "begin" && f.suite == nil:
		return f.begin(words[1])
	case len(words) == 3 && words[0] == "end" && f.suite != nil:
		return f.finish(words[2] == "0")
	case len(words) == 1 && words[0] == "done":
		f.done = true
		return nil
	}
	return fmt.Errorf("read from the machine: %q is not understood", words)
}

func (f *follower) begin(name string) error {
	pkg := f.result.kernel.name + "/" + name
	s := &suite{name: name, started: time.Now(), read: make(chan error, 1), tally: tally{actions: map[string]string{}}}
	s.converter = exec.CommandContext(f.ctx, "go", "tool", "test2json", "-t", "-p", pkg)
	s.converter.Stderr = os.Stderr
	var err error
	if s.input, err = s.converter.StdinPipe(); err != nil {
		return err
	}
	events, err := s.converter.StdoutPipe()
	if err != nil {
		return err
	}
	if err := s.converter.Start(); err != nil {
		return fmt.Errorf("start test2json: %w", err)
	}
	go func() { s.read <- s.copyEvents(f.out, f.result.capabilities, events) }()
	f.suite = s
	f.due = slices.DeleteFunc(f.due, func(due string) bool { return due == name })
	return nil
}

// copyEvents passes the events on, and counts them.
func (s *suite) copyEvents(out io.Writer, capabilities map[string]string, events io.Reader) error {
	lines := bufio.NewReader(events)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if jsonErr := json.Unmarshal(line, &e); jsonErr != nil {
				return fmt.Errorf("read event %q: %w", line, jsonErr)
			}
			s.tally.add(e)
			if e.Action == "attr" {
				capabilities[e.Key] = e.Value
			}
			if _, writeErr := out.Write(line); writeErr != nil {
				return fmt.Errorf("write event: %w", writeErr)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read events: %w", err)
		}
	}
}

// finish ends the running suite as the go command would: with its own word on
// the exit status, which counts for more than the PASS of the binary.
func (f *follower) finish(ok bool) error {
	s := f.suite
	f.suite = nil
	word := "FAIL"
	if ok {
		word = "ok  "
	}
	elapsed := time.Since(s.started)
	if _, err := fmt.Fprintf(s.input, "\x16%s\t%s/%s\t%.3fs\n", word, f.result.kernel.name, s.name, elapsed.Seconds()); err != nil {
		return fmt.Errorf("write to test2json: %w", err)
	}
	if err := s.input.Close(); err != nil {
		return err
	}
	if err := <-s.read; err != nil {
		return err
	}
	if err := s.converter.Wait(); err != nil {
		return fmt.Errorf("test2json: %w", err)
	}
	c := s.tally.count(s.name, elapsed)
	c.load = mean(append(s.loads, load()))
	f.result.suites = append(f.result.suites, c)
	return nil
}

// abandon fails the suites that a dead machine has not finished.
func (f *follower) abandon(reason string) error {
	f.ctx = context.WithoutCancel(f.ctx)
	for f.suite != nil || len(f.due) > 0 {
		if f.suite == nil {
			if err := f.begin(f.due[0]); err != nil {
				return err
			}
		}
		if _, err := fmt.Fprintf(f.suite.input, "\n%s\n", strings.TrimSpace(reason)); err != nil {
			return err
		}
		if err := f.finish(false); err != nil {
			return err
		}
		reason = "not started: the machine is gone"
	}
	return nil
}

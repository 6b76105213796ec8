package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

const (
	cache   = ".cache" // of the repository, which is the working directory
	busybox = cache + "/busybox"
	binDir  = "/opt/cni/bin"
)

// Programs of the machine that the tests call; the shell of busybox would rather
// be its own ip.
var (
	tools = []string{
		"sh", "ip", "bridge", "tc", "strace", "nft", "bpftool",
		"iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore",
	}
	extensions = "/usr/lib/*/xtables/*.so" // of iptables
)

// buildImage makes the initramfs that all kernels share, without modules, and
// returns its path in dir.
func buildImage(ctx context.Context, dir string, o options) (string, error) {
	root := filepath.Join(dir, "root")
	for _, step := range []func(context.Context, string, options) error{
		addBase, addTools, addGuests, addBinaries, addSources, addPeerSources, addSuites,
	} {
		if err := step(ctx, root, o); err != nil {
			return "", err
		}
	}
	image := filepath.Join(dir, "image.cpio")
	script := `busybox=$(realpath "$1") && cd "$2" && find . | "$busybox" cpio -o -H newc -R 0:0 2>/dev/null >"$3"`
	cmd := exec.CommandContext(ctx, "sh", "-ec", script, "sh", busybox, root, image)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("pack initramfs: %w\n%s", err, out)
	}
	return image, os.RemoveAll(root)
}

func addBase(_ context.Context, root string, _ options) error {
	for _, dir := range []string{"dev", "proc", "sys"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return err
		}
	}
	for from, to := range map[string]string{
		busybox: "/bin/busybox", "tests/kernels/guest/init": "/init", "tests/kernels/guest/go": "/usr/bin/go",
		"tests/kernels/guest/modprobe": "/sbin/modprobe",
	} {
		if err := install(from, filepath.Join(root, to), 0o755); err != nil {
			return err
		}
	}
	for file, text := range map[string]string{
		"/etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
		"/etc/group":  "root:x:0:\nkvm:x:107:\nnogroup:x:65534:\n",
	} {
		if err := write(filepath.Join(root, file), text); err != nil {
			return err
		}
	}
	return nil
}

var libraryPath = regexp.MustCompile(`/\S+`)

// addTools copies programs of this machine.
func addTools(ctx context.Context, root string, _ options) error {
	for _, tool := range tools {
		if err := addTool(ctx, root, tool); err != nil {
			return err
		}
	}
	return addFiles(root, extensions)
}

// addTool copies a program, with the libraries that it loads, which keep their
// paths.
func addTool(ctx context.Context, root, tool string) error {
	path, err := exec.LookPath(tool)
	if err != nil {
		return fmt.Errorf("find %s: %w: scripts/prepare kernels", tool, err)
	}
	if err = install(path, filepath.Join(root, "usr/sbin", tool), 0o755); err != nil {
		return err
	}
	libraries, err := exec.CommandContext(ctx, "ldd", path).Output()
	if err != nil {
		return fmt.Errorf("list libraries of %s: %w", tool, err)
	}
	for _, library := range libraryPath.FindAllString(string(libraries), -1) {
		if err := install(library, filepath.Join(root, library), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// addFiles copies files that match, which keep their paths.
func addFiles(root, pattern string) error {
	files, err := filepath.Glob(pattern)
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := install(file, filepath.Join(root, file), 0o644); err != nil {
			return err
		}
	}
	return nil
}

var peerPackage = regexp.MustCompile(`"(github\.com/containernetworking/(?:cni/cnitool|plugins/plugins/[\w/-]+))"`)

// addBinaries installs the plugins, and beside them the peers that the tests
// name, in the versions of go.mod.
func addBinaries(ctx context.Context, root string, o options) error {
	args := []string{"build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(root, binDir) + "/", "./plugins/..."}
	for _, suite := range o.suites {
		files, err := filepath.Glob(suite + "/*.go")
		if err != nil {
			return err
		}
		for _, file := range files {
			source, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			for _, match := range peerPackage.FindAllStringSubmatch(string(source), -1) {
				if !slices.Contains(args, match[1]) {
					args = append(args, match[1])
				}
			}
		}
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build plugins and peers: %w\n%s", err, out)
	}
	return nil
}

// addSources copies the repository, because tests read files of it.
func addSources(_ context.Context, root string, _ options) error {
	return filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || path == "bin"):
			return fs.SkipDir
		case !d.Type().IsRegular():
			return nil
		}
		return install(path, filepath.Join(root, "src", path), 0)
	})
}

// addPeerSources copies those of the peers that make links, because a test reads
// which keys they know.
func addPeerSources(ctx context.Context, root string, _ options) error {
	dir, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/containernetworking/plugins").Output()
	if err != nil {
		return fmt.Errorf("find the peers' sources: %w", err)
	}
	top := strings.TrimSpace(string(dir))
	files, err := filepath.Glob(filepath.Join(top, "plugins/main/*/*.go"))
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := install(file, filepath.Join(root, "peers", strings.TrimPrefix(file, top)), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// addSuites compiles the test packages, and writes the list of what to run.
func addSuites(ctx context.Context, root string, o options) error {
	var list strings.Builder
	for _, variable := range os.Environ() {
		if name, value, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "MICROVM_CNI_") {
			list.WriteString("export " + name + "=" + quote(value) + "\n")
		}
	}
	for _, suite := range o.suites {
		binary := filepath.Join(root, "suites", suite+".test")
		cmd := exec.CommandContext(ctx, "go", "test", "-c", "-trimpath", "-ldflags=-s -w", "-vet=off", "-o", binary, "./"+suite)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		out, err := cmd.CombinedOutput()
		if err == nil {
			_, err = os.Stat(binary)
		}
		if err != nil {
			return fmt.Errorf("compile tests of %s: %w\n%s", suite, err, out)
		}
		boots, err := bootsGuests(ctx, []string{suite})
		if err != nil {
			return err
		}
		word := "suite"
		if boots {
			word = "guests"
		}
		fmt.Fprintf(&list, "%s %s -test.v=test2json -test.paniconexit0 -test.timeout=%v -test.run=%s -test.skip=%s\n",
			word, quote(suite), o.timeout, quote(o.run), quote(o.skip))
	}
	return write(filepath.Join(root, "suites/run"), list.String())
}

// quote makes one word of a shell of it.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func write(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

// install copies a file, with the mode that it has if none is given.
func install(from, to string, mode fs.FileMode) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if mode == 0 {
		info, err := os.Stat(from)
		if err != nil {
			return err
		}
		mode = info.Mode().Perm()
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, data, mode)
}

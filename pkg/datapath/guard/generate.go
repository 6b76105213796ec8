package guard

//go:generate go tool bpf2go -cc clang-14 -strip ../../../scripts/bpf-strip -target bpfel -go-package guard -no-global-types program bpf/guard.c -- -O2 -mcpu=v3 -Wall -Wextra -I/usr/include/x86_64-linux-gnu

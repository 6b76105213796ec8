package guard

//go:generate clang-14 -O2 -mcpu=v3 -Wall -Wextra -Werror -I/usr/include/x86_64-linux-gnu -target bpfel -c bpf/guard.c -o program_bpfel.o
//go:generate ../../../scripts/bpf-strip -g program_bpfel.o

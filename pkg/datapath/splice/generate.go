package splice

//go:generate go tool bpf2go -cc clang-14 -strip ../../../scripts/bpf-strip -target bpfel,bpfeb program splice.c -- -Wall -Wextra -Werror -Wno-unused-parameter -I/usr/include/x86_64-linux-gnu

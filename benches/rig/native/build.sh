#!/bin/sh
# Compiles the rig's programs into the directory $1. Needs clang, bpftool, libbpf-dev and a C compiler.
set -eu
cd "$(dirname "$0")"
into=$1
mkdir -p "$into"
for program in generator drop; do
  clang -O2 -g -Wall -target bpf -I"/usr/include/$(uname -m)-linux-gnu" -c $program.bpf.c -o "$into/$program.bpf.o"
done
bpftool gen skeleton "$into/generator.bpf.o" name generator_bpf >"$into/generator.skel.h"
cc -O2 -Wall -Wextra -I"$into" -o "$into/generator" generator.c -lbpf -lpthread
for program in count sniff; do cc -O2 -Wall -Wextra -o "$into/$program" $program.c; done

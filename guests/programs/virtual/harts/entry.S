# Where a hart begins that another one has started: a0 is its number, a1 the end of its stack.

    .text
    .globl hart_entry
hart_entry:
    mv sp, a1
    tail hart_main

        addi a0, a0, 48     # the letter of the digit
        li a7, 1            # put a letter
        ecall
        li a0, 10           # a newline
        ecall
        li a7, 8            # shut down
        ecall

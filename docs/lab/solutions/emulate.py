def emulate(instruction, virtual, registers):
    rd, funct3, rs1, csr = instruction >> 7 & 31, instruction >> 12 & 7, instruction >> 15 & 31, instruction >> 20
    old = virtual[csr]
    operand = rs1 if funct3 & 4 else registers[rs1]  # csrrwi and its like have a number there
    if funct3 & 3 == 1:
        virtual[csr] = operand
    elif funct3 & 3 == 2:
        virtual[csr] = old | operand
    else:
        virtual[csr] = old & ~operand
    if rd:
        registers[rd] = old

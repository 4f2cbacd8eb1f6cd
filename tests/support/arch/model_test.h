// What the RISC-V architectural tests are told of the machine that they run on: how a run ends, where its results are.
// A word at `tohost` ends the run; the results are the bytes from begin_signature to end_signature, which Spike's
// +signature prints. The machine has a clint at 0x2000000, whose first word is the software interrupt of hart 0.

#define RVMODEL_BOOT

#define RVMODEL_HALT \
    li x1, 1; \
1:  la x2, tohost; \
    sd x1, (x2); \
    j 1b

#define RVMODEL_DATA_BEGIN \
    .pushsection .tohost, "aw", @progbits; \
    .balign 64; .global tohost; tohost: .dword 0; \
    .balign 64; .global fromhost; fromhost: .dword 0; \
    .popsection; \
    .balign 16; .global begin_signature; begin_signature:

#define RVMODEL_DATA_END \
    .balign 16; .global end_signature; end_signature:

// Nothing is printed, and nothing is compared while a test runs.
#define RVMODEL_IO_INIT
#define RVMODEL_IO_WRITE_STR(register, text)
#define RVMODEL_IO_CHECK()
#define RVMODEL_IO_ASSERT_GPR_EQ(saved, register, value)
#define RVMODEL_IO_ASSERT_SFPR_EQ(saved, register, value)
#define RVMODEL_IO_ASSERT_DFPR_EQ(saved, register, value)

#define RVMODEL_SET_MSW_INT li t1, 1; li t2, 0x2000000; sw t1, (t2)
#define RVMODEL_CLR_MSW_INT li t2, 0x2000000; sw x0, (t2)
#define RVMODEL_CLR_MTIMER_INT
#define RVMODEL_CLR_MEXT_INT
#define RVMODEL_FENCEI fence.i

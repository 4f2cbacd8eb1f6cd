RAM, PAGE = 0x8000_0000, 4096


def lay(vm, host, pages):
    for slot, page in enumerate(pages):
        vm.set_user_memory_region(slot, RAM + slot * PAGE, PAGE, memoryview(host)[page * PAGE : (page + 1) * PAGE])

"""One block or region of a program or of a machine, from guest bytes to host bytes, with what is known of how it ran.

    process.py   what is asked of a process, and hart.py of a machine: which code an address is
    watch.py     what is noted of a run
    subject.py   which piece is meant
    data.py      all there is to say of it, as plain data; why.py has the reasons in words
    text.py      that for a terminal
    page.py      and as a page, with page.html

Owns: nothing itself.
"""

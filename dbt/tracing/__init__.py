"""What a run did, event by event, for `dragoman trace`.

    events.py    an event, and the recorder that selects and bounds them
    engine.py    where events of an engine come from: native code that is left, translations
    process.py   and those of a program: system calls and signals
    machine.py   and of a machine: traps, interrupts, world switches, turns, devices
    virtual.py   and of a guest of a virtual machine: world switches, exits
    formats.py   events as text, lines of JSON, and Chrome's trace format

Owns: nothing itself.
"""

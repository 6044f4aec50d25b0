"""Existing Gluon programs: operators from graphs, Python kept.

========================  =============================================================================================
``convert``, ``log``      a program is entered; calls of its thread are put off, and launched when a value is asked for
``lazy``, ``views``       arrays whose value is put off, and what can be done with them without it
``work``, ``tapes``       what was put off, cut into pieces; which calls may be one graph while MXNet records
``segments``              pieces that come again, as graphs
``conversion``            what is known of a program: its trace graph, its segments, what follows what
``report``, ``check``     what happened, told; unconverted and converted side by side
========================  =============================================================================================

What always holds: a call is put off only if it has no effect but its outputs, and whatever writes, reads values or uses
the tape launches all that was put off first. So when work is launched, how it is cut, and whether as graphs or call by
call, decides about time only.
"""

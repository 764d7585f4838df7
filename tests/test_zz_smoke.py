import pytest
def test_smoke(tiny_study):
    from studykit.study import clock
    runs = tiny_study.plan(rates=1e-3, fractions=[.5])
    t = tiny_study.execute(runs, group="x")
    print(t.T.to_string())
    c = tiny_study.clock(rates=1e-3)
    print(c)

"""The benchmark kit: starts programs, loads them, measures, reports. `bench/run` is the way in; bench/README.md the method."""

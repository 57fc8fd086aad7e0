-- A request with a body of BENCH_BODY bytes.
dofile(os.getenv("BENCH_LUA") .. "/report.lua")

wrk.body = string.rep("x", tonumber(os.getenv("BENCH_BODY")))

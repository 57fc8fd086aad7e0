-- Requests of BENCH_METHOD with a body of BENCH_BODY bytes.
dofile(os.getenv("BENCH_LUA") .. "/report.lua")

wrk.method = os.getenv("BENCH_METHOD")
wrk.body = string.rep("x", tonumber(os.getenv("BENCH_BODY")))

-- So many clients, told apart by a header: BENCH_KEYS of them in turn, from a different one each time.
dofile(os.getenv("BENCH_LUA") .. "/report.lua")

local keys, at = tonumber(os.getenv("BENCH_KEYS")), 0
local before, after

function init()
  at = os.time() * 7919 % keys
  before = "GET / HTTP/1.1\r\nHost: " .. wrk.host .. "\r\nX-Client: k"
  after = "\r\n\r\n"
end

function request()
  at = (at + 1) % keys
  return before .. at .. after
end

-- Signed requests from a file made just before: BENCH_SIGNED holds a line each, "stamp nonce signature". None goes out twice;
-- when the file is used up, unsigned ones follow, which are refused, so that nobody takes the figures for good.
dofile(os.getenv("BENCH_LUA") .. "/report.lua")

local lines
local first, unsigned

function init()
  lines = io.lines(os.getenv("BENCH_SIGNED"))
  unsigned = "GET " .. wrk.path .. " HTTP/1.1\r\nHost: " .. wrk.host .. "\r\n"
  first = unsigned .. "x-ca-key: " .. os.getenv("BENCH_APP") ..
    "\r\nx-ca-signature-headers: x-ca-key,x-ca-timestamp,x-ca-nonce\r\nx-ca-timestamp: "
end

function request()
  local line = lines()
  if not line then return unsigned .. "\r\n" end
  local stamp, nonce, signature = line:match("(%S+) (%S+) (%S+)")
  return first .. stamp .. "\r\nx-ca-nonce: " .. nonce .. "\r\nx-ca-signature: " .. signature .. "\r\n\r\n"
end

-- What wrk found out, as one line of JSON after its own report.
function done(summary, latency, requests)
  local errors = summary.errors
  print(string.format(
    'kit {"seconds": %.6f, "requests": %d, "bytes": %d, "connect": %d, "read": %d, "write": %d, "timeout": %d, ' ..
    '"status": %d, "p50_us": %d, "p90_us": %d, "p99_us": %d, "p999_us": %d, "max_us": %d}',
    summary.duration / 1e6, summary.requests, summary.bytes, errors.connect, errors.read, errors.write, errors.timeout,
    errors.status, latency:percentile(50), latency:percentile(90), latency:percentile(99), latency:percentile(99.9),
    latency.max))
end

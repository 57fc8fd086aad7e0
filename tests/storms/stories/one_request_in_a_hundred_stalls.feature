Feature: Hedging
  Scenario: One of three endpoints stalls one request in a hundred, and somebody else answers those in time
    Given origins a, b and c answer in 10 ms
    And a gateway with
      """
      [upstream.search]
      endpoints = [{ address = "{a}" }, { address = "{b}" }, { address = "{c}" }]
      timeout = { read = "2s" }
      hedge = { after = "p95", at_least = "20ms" }
      [[route]]
      path = "/search"
      upstream = "search"
      """
    When clients ask for /search 200 times a second
    And 1 s passes
    And origin c stalls 1 % of its requests
    And "ill" lasts 5 s
    Then no request of "ill" failed
    And the p99.9 of "ill" is at most 250 ms
    And the metric gateway_upstream_hedges_total{upstream=search, outcome=won} is at least 3 within 2 s
    And the origins got at most 1.2 times the requests of "ill"

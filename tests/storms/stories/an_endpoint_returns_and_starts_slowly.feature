Feature: Slow start
  Scenario: An endpoint that returns takes its share little by little
    Given origins a and b answer in 5 ms
    And a gateway with
      """
      [upstream.api]
      endpoints = [{ address = "{a}" }, { address = "{b}" }]
      passive = { max_fails = 1, fail_timeout = "10s", slow_start = "4s" }
      health = { interval = "200ms", rise = 1, fall = 1 }
      [[route]]
      path = "/**"
      upstream = "api"
      """
    When clients ask for / 100 times a second
    And "calm" lasts 1 s
    And origin b dies
    Then the metric gateway_endpoint_healthy{upstream=api} becomes 1 within 3 s
    When origin b comes back
    Then the metric gateway_endpoint_healthy{upstream=api} becomes 2 within 3 s
    When "first" lasts 1 s
    And 3 s pass
    And "later" lasts 1 s
    Then origin b got at least 45 % of the requests of "calm"
    And origin b got at least 2 % of the requests of "first"
    And origin b got at most 30 % of the requests of "first"
    And origin b got at least 45 % of the requests of "later"
    And no request of "later" failed

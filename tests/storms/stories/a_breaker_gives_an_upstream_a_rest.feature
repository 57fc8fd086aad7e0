Feature: Circuit breakers
  Scenario: An upstream fails, is left alone while its breaker is open, and serves again by itself
    Given origins a and b answer in 5 ms
    And a gateway with
      """
      [upstream.orders]
      endpoints = [{ address = "{a}" }, { address = "{b}" }]
      passive = { max_fails = 0 }
      [upstream.orders.breaker]
      window = "2s"
      minimum_calls = 20
      open_for = "1s"
      half_open_calls = 5
      [[route]]
      path = "/orders"
      upstream = "orders"
      """
    When clients ask for /orders 100 times a second
    And "calm" lasts 1 s
    And origins a and b answer 100 % of their requests with 503
    And 2 s pass
    And "rest" lasts 1 s
    Then the metric gateway_breaker_state{upstream=orders} becomes 2 within 2 s
    And "status" says "open"
    When origins a and b are well again
    Then the metric gateway_breaker_state{upstream=orders} becomes 0 within 5 s
    When "after" lasts 1 s
    Then no request of "calm" failed
    And no request of "after" failed
    And origin a got at most 10 % of the requests of "rest"
    And at least 90 % of the requests of "rest" were answered 503

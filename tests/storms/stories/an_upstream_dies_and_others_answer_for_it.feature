Feature: Degradation
  Scenario: An upstream dies; the last good answers and another upstream stand in for it, until it is back
    Given origins main and spare answer in 5 ms
    And a gateway with
      """
      [upstream.shop]
      endpoints = [{ address = "{main}" }]
      [upstream.shop.breaker]
      window = "2s"
      minimum_calls = 10
      open_for = "1s"
      [upstream.spare]
      endpoints = [{ address = "{spare}" }]
      [[route]]
      id = "menu"
      path = "/menu"
      upstream = "shop"
      fallback = { last_good = {} }
      degrade = { on_breaker = "fallback", hold = "1s" }
      [[route]]
      id = "orders"
      path = "/orders"
      upstream = "shop"
      fallback = { upstream = "spare" }
      """
    When reading clients ask for /menu 50 times a second
    And ordering clients ask for /orders 50 times a second
    And "calm" lasts 1 s
    And origin main dies
    And "dead" lasts 1 s
    Then the metric gateway_route_level{route=menu} becomes 2 within 3 s
    And "status" says "LEVEL fallback of menu, by itself"
    When origin main comes back
    Then the metric gateway_route_level{route=menu} becomes 0 within 6 s
    And the metric gateway_breaker_state{upstream=shop} becomes 0 within 3 s
    When "back" lasts 1 s
    Then no request of "calm" failed
    And no request of "dead" failed
    And no request of "back" failed
    And at least 90 % of the requests of "dead" by reading clients got the fallback "last_good"
    And at least 90 % of the requests of "dead" by ordering clients got the fallback "upstream"
    And origin main got at least 95 % of the requests of "back"

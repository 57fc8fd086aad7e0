Feature: Levels set by an operator
  Scenario: An operator spares an upstream; a reload does not undo it, the operator does
    Given origin a answers in 5 ms
    And a gateway with
      """
      [upstream.shop]
      endpoints = [{ address = "{a}" }]
      [[route]]
      id = "reviews"
      path = "/reviews"
      upstream = "shop"
      fallback = { text = "[]" }
      """
    When clients ask for /reviews 50 times a second
    And "calm" lasts 0.5 s
    And the operator runs "degrade reviews fallback"
    And 0.1 s pass
    And "spared" lasts 1 s
    And the operator reloads with
      """
      [upstream.shop]
      endpoints = [{ address = "{a}" }]
      [[route]]
      id = "reviews"
      path = "/reviews"
      upstream = "shop"
      timeout = "3s"
      fallback = { text = "none" }
      """
    And "reloaded" lasts 1 s
    Then "status" says "LEVEL fallback of reviews, set by an operator"
    And the metric gateway_route_level{route=reviews} becomes 2 within 2 s
    When the operator runs "degrade reviews normal"
    And 0.1 s pass
    And "again" lasts 1 s
    Then the origins got none of the requests of "spared"
    And the origins got none of the requests of "reloaded"
    And at least 100 % of the requests of "reloaded" got the fallback "fixed"
    And origin a got at least 100 % of the requests of "again"
    And no request of "again" failed

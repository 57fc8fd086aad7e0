Feature: Endpoints that slow down
  Scenario: One of five endpoints becomes ten times slower, and after three seconds clients see none of it
    Given origins a, b, c, d and e answer in 20 ms
    And a gateway with
      """
      [upstream.api]
      balance = "peak_ewma"
      endpoints = [
        { address = "{a}" }, { address = "{b}" }, { address = "{c}" }, { address = "{d}" }, { address = "{e}" },
      ]
      [[route]]
      path = "/**"
      upstream = "api"
      """
    When clients ask for / 150 times a second
    And 0.5 s pass
    And "calm" lasts 2 s
    And origin c takes 200 ms
    And 3 s pass
    And "late" lasts 3 s
    Then the p99 of "late" is at most 1.5 times that of "calm"
    And no request of "late" failed

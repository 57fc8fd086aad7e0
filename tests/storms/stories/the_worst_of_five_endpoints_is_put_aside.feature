Feature: Outlier ejection
  Scenario: One of five endpoints fails by halves, is put aside for doing worse than the others, and comes back
    Given origins a, b, c, d and e answer in 5 ms
    And a gateway with
      """
      [upstream.api]
      endpoints = [
        { address = "{a}" }, { address = "{b}" }, { address = "{c}" }, { address = "{d}" }, { address = "{e}" },
      ]
      passive = { max_fails = 0 }
      outlier = { consecutive = 0, interval = "1s", min_requests = 10, base_ejection = "2s" }
      [[route]]
      path = "/**"
      upstream = "api"
      """
    When clients ask for / 150 times a second
    And 0.5 s pass
    And origin c answers 50 % of its requests with 500
    Then "status" says " ejected "
    When "aside" lasts 1 s
    And origin c is well again
    Then the metric gateway_endpoint_healthy{upstream=api} becomes 5 within 5 s
    When "back" lasts 1 s
    Then origin c got at most 0 % of the requests of "aside"
    And no request of "aside" failed
    And origin c got at least 15 % of the requests of "back"
    And no request of "back" failed

Feature: The retry budget
  Scenario: All endpoints fail, and further tries do not multiply what they get
    Given origins a, b and c answer in 5 ms
    And a gateway with
      """
      [upstream.api]
      endpoints = [{ address = "{a}" }, { address = "{b}" }, { address = "{c}" }]
      passive = { max_fails = 0 }
      retry = { attempts = 2, budget = "20%" }
      [[route]]
      path = "/**"
      upstream = "api"
      """
    When clients ask for / 200 times a second
    And "calm" lasts 1 s
    And origins a, b and c answer 100 % of their requests with 503
    And "outage" lasts 4 s
    And origins a, b and c are well again
    And 0.5 s pass
    And "after" lasts 1 s
    Then no request of "calm" failed
    And at least 98 % of the requests of "outage" were answered 503
    And the origins got at most 1.2 times the requests of "calm" and "outage"
    And no request of "after" failed

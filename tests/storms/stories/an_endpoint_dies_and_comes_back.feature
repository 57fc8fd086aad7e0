Feature: Endpoints come and go
  Scenario: One of three endpoints dies under load, and comes back
    Given origins a, b and c answer in 5 ms
    And a gateway with
      """
      [upstream.users]
      endpoints = [{ address = "{a}" }, { address = "{b}" }, { address = "{c}" }]
      passive = { max_fails = 2, fail_timeout = "1s" }
      [[route]]
      path = "/users/**"
      upstream = "users"
      """
    When clients ask for /users/7 100 times a second
    And "calm" lasts 1 s
    And origin c dies
    And "dead" lasts 2 s
    And origin c comes back
    And 1.5 s pass
    And "back" lasts 1 s
    Then no request of "calm" failed
    And no request of "dead" failed
    And no request of "back" failed
    And origin c got at least 25 % of the requests of "calm"
    And origin c got at most 1 % of the requests of "dead"
    And origin c got at least 25 % of the requests of "back"

Feature: Sticky sessions
  Scenario: A client stays with its endpoint while another goes and comes back
    Given origins a, b and c answer in 5 ms
    And a gateway with
      """
      [upstream.game]
      endpoints = [{ address = "{a}" }, { address = "{b}" }, { address = "{c}" }]
      passive = { max_fails = 3, fail_timeout = "1s" }
      sticky = { secret = "a secret of at least 32 bytes, for a story" }
      [[route]]
      path = "/play"
      upstream = "game"
      """
    When clients ask for /play 150 times a second, each with its cookies
    And 1 s passes
    And "before" lasts 1 s
    And origin c dies
    And "without" lasts 2 s
    And origin c comes back
    And 1.5 s pass
    And "back" lasts 1 s
    Then no request of "without" failed
    And each client has one origin in "before"
    And each client that origins a and b served in "before" stays there in "without"
    And each client that origins a and b served in "before" stays there in "back"
    And origin c got at most 0 % of the requests of "without"

Feature: Endpoints that fail by halves
  Scenario: One of three endpoints answers every second request with 503, and clients see none of it
    Given origins a, b and c answer in 5 ms
    And a gateway with
      """
      [upstream.users]
      endpoints = [{ address = "{a}" }, { address = "{b}" }, { address = "{c}" }]
      passive = { max_fails = 0 }
      [[route]]
      path = "/users/**"
      upstream = "users"
      """
    When clients ask for /users/7 100 times a second
    And origin b answers 50 % of its requests with 503
    And "ill" lasts 3 s
    Then no request of "ill" failed
    And origin b got at least 10 % of the requests of "ill"
    And origin b got at most 20 % of the requests of "ill"

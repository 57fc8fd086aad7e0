Feature: Quotas
  Scenario: What was used up of a daily quota stays used up over a restart
    Given origin a answers in 5 ms
    And a gateway with
      """
      [limit.plan]
      key = "client_ip"
      algorithm = "quota"
      quota = 60
      window = "day"
      [upstream.api]
      endpoints = [{ address = "{a}" }]
      [[route]]
      path = "/**"
      upstream = "api"
      limits = ["plan"]
      """
    When early clients ask for / 50 times a second
    And "morning" lasts 0.8 s
    And early clients leave
    And the gateway is stopped and started again
    And late clients ask for / 50 times a second
    And "noon" lasts 1.5 s
    Then exactly 60 requests were answered 200
    And no request of "noon" failed
    And at least 50 % of the requests of "noon" were answered 429

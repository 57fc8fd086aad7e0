Feature: Maintenance
  Scenario: An operator closes the gateway by a reload and opens it by another, while clients ask
    Given origin a answers in 5 ms
    And a gateway with
      """
      [upstream.api]
      endpoints = [{ address = "{a}" }]
      [[route]]
      path = "/**"
      upstream = "api"
      """
    When clients ask for / 150 times a second
    And "open" lasts 1 s
    And the operator reloads with
      """
      [server.maintenance]
      enabled = true
      retry_after = "10m"
      [upstream.api]
      endpoints = [{ address = "{a}" }]
      [[route]]
      path = "/**"
      upstream = "api"
      """
    And 0.1 s pass
    And "closed" lasts 1.5 s
    And the operator reloads with
      """
      [upstream.api]
      endpoints = [{ address = "{a}" }]
      [[route]]
      path = "/**"
      upstream = "api"
      """
    And 0.1 s pass
    And "open again" lasts 1 s
    Then no request of "open" failed
    And at least 100 % of the requests of "closed" were answered 503
    And every refusal of "closed" says "maintenance" and when to come back
    And the origins got none of the requests of "closed"
    And no request of "open again" failed

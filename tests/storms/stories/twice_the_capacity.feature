Feature: Overload
  Scenario: Twice of what can be served comes in: what matters is served, the rest is told when to come back
    Given origin a serves 20 requests at once, each in 100 ms
    And a gateway with
      """
      [upstream.shop]
      endpoints = [{ address = "{a}" }]
      concurrency = { max = 20, queue = 10, queue_timeout = "100ms" }
      [[route]]
      path = "/pay"
      upstream = "shop"
      class = "critical"
      [[route]]
      path = "/related"
      upstream = "shop"
      class = "sheddable"
      """
    When paying clients ask for /pay 80 times a second
    And 0.5 s pass
    And "calm" lasts 2 s
    And browsing clients ask for /related 320 times a second
    And "storm" lasts 3 s
    And browsing clients leave
    And late clients ask for /related 40 times a second
    And 1 s passes
    And "after" lasts 1 s
    Then no request of "storm" by paying clients failed
    And the p99 of "storm" by paying clients is at most 2 times that of "calm"
    And at least 40 % of the requests of "storm" by browsing clients were answered 503
    And every refusal of "storm" says "overloaded" and when to come back
    And no request of "after" failed

Feature: Roll-outs
  Scenario: A canary fails, is stopped by itself with a reason, and the main side notices nothing
    Given origins old and new answer in 5 ms
    And a gateway with
      """
      [upstream.checkout]
      endpoints = [{ address = "{old}" }]
      [upstream.checkout-next]
      endpoints = [{ address = "{new}" }]
      [[route]]
      id = "checkout"
      path = "/checkout"
      split = [{ upstream = "checkout", weight = 80 }, { upstream = "checkout-next", weight = 20 }]
      rollout = { window = "5s" }
      """
    When clients ask for /checkout 150 times a second
    And "calm" lasts 1 s
    And origin new answers 50 % of its requests with 500
    And "trial" lasts 2 s
    Then "status" says "stopped: clearly worse than checkout: 5xx answers"
    And the log says "clearly worse than checkout: 5xx answers"
    And the metric gateway_split_stopped{route=checkout, upstream=checkout-next} becomes 1 within 2 s
    When "after" lasts 1 s
    Then origin new got at least 10 % of the requests of "trial"
    And no request of "trial" that origin old answered failed
    And origin new got at most 0 % of the requests of "after"
    And no request of "after" failed
    And the p99 of "after" is at most 100 ms

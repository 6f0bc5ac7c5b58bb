LedgerTimeline.mount(document.getElementById("ledger-timeline")).update(
  JSON.parse(document.getElementById("ledger-timeline-data").textContent));

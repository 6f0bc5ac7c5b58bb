select
    line_id,
    ticket_id,
    filling,
    quantity,
    quantity * unit_cents / 100.0 as amount
from {{ ref('kiosk_lines') }}

select
    ticket_id,
    guest_id,
    sold_at,
    cast(sold_at as date) as sold_on,
    channel
from {{ ref('kiosk_tickets') }}

select
    guests.guest_id,
    guests.guest_name,
    count(totals.ticket_id) as tickets,
    coalesce(sum(totals.amount), 0) as amount,
    max(totals.sold_on) as last_visit
from {{ ref('stg_guests') }} as guests
left join {{ ref('ticket_totals') }} as totals on guests.guest_id = totals.guest_id
group by guests.guest_id, guests.guest_name

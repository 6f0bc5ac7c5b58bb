select
    tickets.ticket_id,
    tickets.guest_id,
    tickets.sold_on,
    tickets.channel,
    sum(lines.quantity) as toasties,
    sum(lines.amount) as amount
from {{ ref('stg_tickets') }} as tickets
inner join {{ ref('stg_lines') }} as lines on tickets.ticket_id = lines.ticket_id
group by all

select
    lines.filling,
    sum(lines.quantity) as toasties,
    count(distinct tickets.guest_id) as guests
from {{ ref('stg_lines') }} as lines
inner join {{ ref('stg_tickets') }} as tickets on lines.ticket_id = tickets.ticket_id
group by lines.filling

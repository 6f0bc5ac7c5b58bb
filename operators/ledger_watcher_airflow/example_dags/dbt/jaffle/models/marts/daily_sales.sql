select
    sold_on,
    count(*) as tickets,
    sum(toasties) as toasties,
    sum(amount) as amount
from {{ ref('ticket_totals') }}
group by sold_on

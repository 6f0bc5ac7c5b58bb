-- The days and the tickets are two sums over the same sales: a difference means that a join lost or doubled rows.
with by_day as (select sum(amount) as amount from {{ ref('daily_sales') }}),
by_ticket as (select sum(amount) as amount from {{ ref('ticket_totals') }})

select by_day.amount as by_day, by_ticket.amount as by_ticket
from by_day
cross join by_ticket
where abs(by_day.amount - by_ticket.amount) > 0.001

{{ log('a line of ' ~ this.name ~ ': äß€', info=true) }}
select id, cast(null as integer) as n from {{ ref('raw_items') }}

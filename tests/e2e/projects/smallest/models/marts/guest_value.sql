select guests.* from {{ ref("stg_guests") }} as guests cross join {{ source("desk", "tickets") }}
